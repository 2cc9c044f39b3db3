//! mailutils
