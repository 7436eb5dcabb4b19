"""The journal: what the topics told, as rows that can be asked. The topics are the truth; this is their index."""
