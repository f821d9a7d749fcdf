//! The segments room.
