//! Judge of *shapes*.
