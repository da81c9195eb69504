"""Where the agents of all replicas are: a registry in Redis, and what each replica mirrors of it."""
