import GRPCCore

/// The other hosts' daemons, over gRPC with mutual TLS.
struct PeerNetwork: PeerCalls {
    let connections: PeerConnections
    let images: ImageTransfer

    func openHandoff(to host: HostRecord) async throws -> any HandoffLink {
        PeerHandoffLink(call: try await connection(host).handoff(), host: host.name)
    }

    func status(of user: String, at host: HostRecord) async throws -> PeerSMIStatus {
        let peer = try await connection(host).peer
        let reply = try await calling(host) {
            try await peer.smiStatus(.with { $0.user = user }, options: .limited(.seconds(3)))
        }
        if reply.hasFailure { throw OrchestratorError(reply.failure) }
        return PeerSMIStatus(
            present: reply.present,
            generation: Int(reply.generation),
            resumed: reply.resumed,
            lacksPages: reply.lacksPages
        )
    }

    func call(
        _ method: ControlMethod,
        _ json: [UInt8],
        at host: HostRecord,
        timeout: Duration
    ) async throws -> [UInt8] {
        try await connection(host).call(method.rawValue, json, limit: timeout)
    }

    func stream(
        _ method: ControlMethod,
        _ json: [UInt8],
        at host: HostRecord,
        _ document: @escaping @Sendable ([UInt8]) async throws -> Void
    ) async throws {
        let peer = try await connection(host).peer
        let request = Smirun_V1_PeerCallRequest.with {
            $0.method = method.rawValue
            $0.json = .init(json)
        }
        try await calling(host) {
            try await peer.stream(request) { response in
                for try await reply in response.messages {
                    switch reply.outcome {
                    case .json(let json): try await document(Array(json))
                    case .failure(let failure): throw OrchestratorError(failure)
                    case nil: continue
                    }
                }
            }
        }
    }

    func pid(of host: HostRecord, timeout: Duration) async throws -> Int32 {
        let reply = try await within(timeout, "host \(host.name)") {
            try await call(.ready, encode(Nothing()), at: host, timeout: timeout)
        }
        return try decode(ReadyReply.self, reply).pid
    }

    func fetchImage(_ digest: String, from host: HostRecord) async throws {
        let peer = try await connection(host).peer
        try await calling(host) { try await images.fetch(digest, from: peer) }
    }

    /// The connection to a host, made where there is none.
    func connection(_ host: HostRecord) async throws -> PeerConnection {
        try await connections.connection(to: host.name, at: PeerAddress(host.address, host.port))
    }

    private func calling<Value: Sendable>(
        _ host: HostRecord,
        _ body: () async throws -> Value
    ) async throws -> Value {
        do {
            return try await body()
        } catch {
            throw OrchestratorError(error, calling: "host \(host.name)")
        }
    }
}
