"""The gRPC service of §D1: validation, balancing over the replicas, and the relay of their streams."""
