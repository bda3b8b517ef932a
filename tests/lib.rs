//! Holds the workspace's `[[test]]` targets; it has no code of its own.
