"""The live page of a home: reads a sweep's files, also while it runs, and shows what the report says of them."""
