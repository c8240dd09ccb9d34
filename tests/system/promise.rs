//! The numbered promise of the file system, a module for each number; `docs/semantics.md` has
//! the sentences. Every test runs in process and through a real mount, unless it says why.

pub(crate) mod attempts;
mod p01;
mod p02;
mod p03;
mod p04;
mod p05;
mod p06;
mod p07;
mod p08;
mod p09;
mod p10;
mod p11;
mod p12;
mod p13;
mod p14;
mod p15;
mod p17;
mod p18;
