"""What Sluice does with a Kafka beside reading tool calls: topics, a producer that gives its word, the journal's reader."""
