//! Pure decisions of one agent about its mesh: who dials, glare, replay, order, acknowledgements.
