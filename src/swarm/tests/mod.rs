//! What users see of the swarm file: the whole text for everything that can be wrong, and that
//! good files mean what they say. `bad.txt` is the table of wrong ones.

mod bad;
mod good;
