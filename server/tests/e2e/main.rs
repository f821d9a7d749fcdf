//! One node in this process, spoken to over real sockets.

mod bodies;
mod framing;
mod ingest;
mod receipts;
mod restart;
mod support;
