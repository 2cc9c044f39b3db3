//! deliverd
