"""What a training eats: samples, splits that cannot leak, the cut-out cache, augmented batches."""
