"""All shards of one state, as if they were one: each object here asks the one shard that a connector or an id names, or every one."""
