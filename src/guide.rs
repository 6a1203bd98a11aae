//! The Rust in the guide, run as tests of the documentation.

#[doc = include_str!("../docs/guide/src/getting-started.md")]
struct GettingStarted;

#[doc = include_str!("../docs/guide/src/writing-a-tool.md")]
struct WritingATool;

#[doc = include_str!("../docs/guide/src/limits.md")]
struct Limits;

#[doc = include_str!("../docs/guide/src/capabilities.md")]
struct Capabilities;

#[doc = include_str!("../docs/guide/src/supervision.md")]
struct Supervision;

#[doc = include_str!("../docs/guide/src/embedding.md")]
struct Embedding;

#[doc = include_str!("../docs/guide/src/mcp.md")]
struct Mcp;

#[doc = include_str!("../docs/guide/src/upgrades-and-signatures.md")]
struct UpgradesAndSignatures;

#[doc = include_str!("../docs/guide/src/operations.md")]
struct Operations;
