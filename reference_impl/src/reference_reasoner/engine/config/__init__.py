"""What a run is told: typed settings that check themselves, and where each value comes from."""
