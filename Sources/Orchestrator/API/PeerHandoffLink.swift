import BackingStore

/// The source's end of a hand-off over gRPC.
struct PeerHandoffLink: HandoffLink {
    let call: DuplexCall<Smirun_V1_HandoffRequest, Smirun_V1_HandoffReply>
    let host: String

    func prepare(_ preparation: HandoffPreparation) async throws -> HandoffOutcome? {
        try await call.send(preparation.message())
        while let reply = try await call.next() {
            switch reply.message {
            case .prepared: return nil
            case .failed(let reason): return .refused(OrchestratorError(reason))
            default: continue
            }
        }
        throw ended
    }

    func send(_ stream: CutStream, _ bytes: [UInt8]) async throws -> Int {
        let packed = ChunkPacking.packed(bytes)
        do {
            try await call.send(
                .with {
                    $0.chunk.kind = stream.kind
                    $0.chunk.data = .init(packed)
                }
            )
        } catch {
            throw await refusal() ?? error
        }
        return packed.count
    }

    func complete(bytes: [CutStream: Int64], memoryEpoch: UInt64?) async throws {
        try await call.send(
            .with {
                $0.cutComplete.memoryEpoch = memoryEpoch ?? 0
                $0.cutComplete.streams = bytes.map { stream, count in
                    .with {
                        $0.kind = stream.kind
                        $0.bytes = UInt64(count)
                    }
                }
            }
        )
    }

    func outcome() async throws -> HandoffOutcome {
        while let reply = try await call.next() {
            switch reply.message {
            case .resumed(let resumed): return .resumed(phases: phasesFromWire(resumed.phases))
            case .failed(let reason): return .refused(OrchestratorError(reason))
            default: continue
            }
        }
        throw ended
    }

    func close(abandoning reason: OrchestratorError?) async {
        guard let reason else { return call.finish() }
        let call = call
        _ = try? await within(.seconds(1), "host \(host)") {
            try await call.send(.with { $0.abort.reason = reason.message })
        }
        call.finish()
        // The destination ends the call once it has destroyed what it had staged.
        _ = try? await within(.seconds(5), "host \(host)") { while try await call.next() != nil {} }
    }

    /// Why the destination ended the call while the cut was on its way, where it said so.
    private func refusal() async -> OrchestratorError? {
        let (call, host) = (call, host)
        return try? await within(.seconds(1), "host \(host)") { () -> OrchestratorError? in
            while let reply = try await call.next() {
                if case .failed(let reason) = reply.message { return OrchestratorError(reason) }
            }
            return nil
        }
    }

    private var ended: OrchestratorError {
        OrchestratorError(
            .handoffFailed,
            cause: "host \(host) ended the hand-off without a word",
            remedy: "look at its daemon's log, then try again"
        )
    }
}
