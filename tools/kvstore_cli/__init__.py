"""The `kvstore` command: looks into a store, and moves its content in and out."""
