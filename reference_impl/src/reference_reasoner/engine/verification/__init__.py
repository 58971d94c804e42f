"""What proves the project's claims again: reproduce, replay, doctor."""
