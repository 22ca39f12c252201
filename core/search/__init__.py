"""The search for good subnets at given sizes: evolution, allocation, ladders of sizes."""
