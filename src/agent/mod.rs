//! One agent: joins mesh, signal, link and witness.
