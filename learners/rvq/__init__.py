"""RVQ action tokenizers: chunks of actions as a few small integers, any prefix of which can be decoded."""
