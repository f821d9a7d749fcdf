//! One node in this process, spoken to over real sockets.

mod bodies;
mod framing;
mod ingest;
mod restart;
mod support;
