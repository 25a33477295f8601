"""The one look at the test split; the only room that opens the door."""
