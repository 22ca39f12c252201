"""Speech made ready for training and evaluation: filters, prepared features, batches."""
