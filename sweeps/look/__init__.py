"""The one look at the test split. Only this room may read test items."""
