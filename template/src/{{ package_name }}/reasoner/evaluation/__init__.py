"""What a reasoner's predictions are scored and pictured by."""
