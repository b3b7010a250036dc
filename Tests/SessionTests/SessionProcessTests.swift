import Testing

/// Tests that start smi-init: one at a time, as each keeps both processors of a small machine busy, and waits for what it
/// started with a time limit.
@Suite(.serialized) struct SessionProcessTests {}
