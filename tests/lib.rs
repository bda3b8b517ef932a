//! Contains only the workspace's `[[test]]` targets.
