import GRPCCore

/// The destination's end of a hand-off over gRPC.
///
/// Messages pass through a bounded channel, so that the source is slowed to what the destination can write, and so
/// that the hand-off goes on to its certain end when the connection, and with it the RPC, is cancelled.
struct HandoffReceiver: HandoffReplies {
    let arrivals: BoundedChannel<HandoffArrival>
    let response: RPCWriter<Smirun_V1_HandoffReply>

    func next() async -> HandoffArrival? {
        try? await arrivals.next()
    }

    func sayPrepared() async {
        await say(.with { $0.prepared = Smirun_V1_HandoffPrepared() })
    }

    func sayResumed(generation: Int, phases: [String: Double]) async {
        await say(
            .with {
                $0.resumed.generation = UInt64(generation)
                $0.resumed.phases = phasesOnWire(phases)
            }
        )
    }

    func sayRefused(_ error: OrchestratorError) async {
        await say(.with { $0.failed = error.message })
    }

    private func say(_ reply: Smirun_V1_HandoffReply) async {
        // A source that cannot be told any more asks by itself (SMIStatus).
        try? await response.write(reply)
    }
}
