import GRPCCore

/// What a daemon does for the others.
struct PeerService: Smirun_V1_Peer.SimpleServiceProtocol {
    let agent: HostAgent
    let dispatcher: ControlDispatcher
    let sessions: SessionRelay
    let images: ImageTransfer

    func handoff(
        request: RPCAsyncSequence<Smirun_V1_HandoffRequest, any Error>,
        response: RPCWriter<Smirun_V1_HandoffReply>,
        context: ServerContext
    ) async throws {
        let arrivals = BoundedChannel<HandoffArrival>(limit: 4)
        var hosted: Task<Void, Never>?
        do {
            for try await message in request {
                if case .prepare(let prepare) = message.message, hosted == nil {
                    let preparation = try HandoffPreparation(prepare)
                    let receiver = HandoffReceiver(arrivals: arrivals, response: response)
                    hosted = Task { [agent] in
                        await agent.arrive(preparation, replies: receiver)
                        arrivals.finish()
                    }
                } else if let arrival = HandoffArrival(message) {
                    try await arrivals.send(arrival)
                }
            }
        } catch {
            agent.around.logger.warning("hand-off stream ended", metadata: ["error": "\(error)"])
        }
        arrivals.finish()
        await hosted?.value
    }

    func fetchImage(
        request: Smirun_V1_FetchImageRequest,
        response: RPCWriter<Smirun_V1_ImageChunk>,
        context: ServerContext
    ) async throws {
        try await images.serve(request.digest) { try await response.write($0) }
    }

    func relay(
        request: RPCAsyncSequence<Smirun_V1_RelayRequest, any Error>,
        response: RPCWriter<Smirun_V1_RelayReply>,
        context: ServerContext
    ) async throws {
        try await sessions.serve(request, response)
    }

    func smiStatus(
        request: Smirun_V1_SMIStatusRequest,
        context: ServerContext
    ) async throws -> Smirun_V1_SMIStatusReply {
        var reply = Smirun_V1_SMIStatusReply()
        do {
            let status = try await agent.status(request.user)
            reply.present = status.present
            reply.generation = UInt64(status.generation)
            reply.resumed = status.resumed
            reply.lacksPages = status.lacksPages
        } catch {
            reply.failure = OrchestratorError(wrapping: error).message
        }
        return reply
    }

    func call(
        request: Smirun_V1_PeerCallRequest,
        context: ServerContext
    ) async throws -> Smirun_V1_PeerCallReply {
        var reply = Smirun_V1_PeerCallReply()
        do {
            let method = try ControlMethod(named: request.method)
            reply.json = .init(try await dispatcher.answer(method, Array(request.json), forwarded: true))
        } catch {
            reply.failure = OrchestratorError(wrapping: error).message
        }
        return reply
    }

    func stream(
        request: Smirun_V1_PeerCallRequest,
        response: RPCWriter<Smirun_V1_PeerCallReply>,
        context: ServerContext
    ) async throws {
        do {
            let method = try ControlMethod(named: request.method)
            try await dispatcher.stream(method, Array(request.json), forwarded: true) { document in
                var reply = Smirun_V1_PeerCallReply()
                reply.json = .init(document)
                try await response.write(reply)
            }
        } catch {
            var reply = Smirun_V1_PeerCallReply()
            reply.failure = OrchestratorError(wrapping: error).message
            try await response.write(reply)
        }
    }
}

/// What a daemon does for its command line.
struct ControlHandler: ControlHandling {
    let dispatcher: ControlDispatcher

    func call(_ method: String, _ json: [UInt8]) async throws -> [UInt8] {
        do {
            return try await dispatcher.answer(ControlMethod(named: method), json)
        } catch {
            throw OrchestratorError(wrapping: error)
        }
    }

    func stream(
        _ method: String,
        _ json: [UInt8],
        _ send: @escaping @Sendable ([UInt8]) async throws -> Void
    ) async throws {
        do {
            try await dispatcher.stream(ControlMethod(named: method), json, send: send)
        } catch {
            throw OrchestratorError(wrapping: error)
        }
    }
}

extension ControlMethod {
    /// The method of a name from the wire.
    init(named name: String) throws {
        guard let method = ControlMethod(rawValue: name) else {
            throw OrchestratorError(
                .version,
                cause: "this daemon does not know the request '\(name)'",
                remedy: "run the same version of smirun everywhere"
            )
        }
        self = method
    }
}
