"""A fake DynamoDB and DynamoDB Streams at the HTTP level, with the faults that emulators lack."""
