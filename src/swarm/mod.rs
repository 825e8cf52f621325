//! The swarm file: what is written, checked into what is true (`cli.md`, section *Swarm file*).
