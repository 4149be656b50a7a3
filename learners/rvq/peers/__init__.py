"""What action tokenizers are compared with, each counted in bits: cosines, FAST, plain residual codes of steps."""
