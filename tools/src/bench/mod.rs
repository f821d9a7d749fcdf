//! `flk bench`: how fast a server takes submissions, and the parts that a benchmark suite builds on.

pub mod answer;
pub mod bodies;
pub mod epoll;
pub mod html;
pub mod load;
