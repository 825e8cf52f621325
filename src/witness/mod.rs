//! Merkle log of everything that was offered, said and refused (`wire.md`, section *Witness log*).
