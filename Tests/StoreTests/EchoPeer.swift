import Foundation
import GRPCCore

@testable import Orchestrator

/// A peer service that answers what it was asked, for tests of the transport.
struct EchoPeer: Smirun_V1_Peer.SimpleServiceProtocol {
    /// Called when a call named `wait` has begun; it ends with its cancellation.
    var waiting: @Sendable () -> Void = {}
    /// Called when that call was cancelled.
    var cancelled: @Sendable () -> Void = {}

    func call(request: Smirun_V1_PeerCallRequest, context: ServerContext) async throws -> Smirun_V1_PeerCallReply {
        switch request.method {
        case "whoami": return .with { $0.json = Data((context.peerHost ?? "nobody").utf8) }
        case "fail":
            let error = OrchestratorError(
                .userUnknown,
                cause: "no such user",
                remedy: "launch it",
                log: "line 1\nline 2"
            )
            return .with { $0.failure = error.message }
        case "wait":
            do {
                return try await cancelling(context) {
                    waiting()
                    try await Task.sleep(for: .seconds(3600))
                    return Smirun_V1_PeerCallReply()
                }
            } catch {
                cancelled()
                throw error
            }
        default: return .with { $0.json = request.json }
        }
    }

    /// Counts the bytes of all chunks and reports the sum when the source has finished.
    func handoff(
        request: RPCAsyncSequence<Smirun_V1_HandoffRequest, any Error>,
        response: RPCWriter<Smirun_V1_HandoffReply>,
        context: ServerContext
    ) async throws {
        var bytes: UInt64 = 0
        for try await message in request {
            if case .abort(let abort) = message.message {
                try await response.write(.with { $0.failed = abort.reason })
                return
            }
            if case .prepare = message.message { try await response.write(.with { $0.prepared.epoch = 7 }) }
            bytes += UInt64(message.chunk.data.count)
        }
        try await response.write(.with { $0.resumed.generation = bytes })
    }

    /// Sends back what comes; ends the call where it is asked for nobody.
    func relay(
        request: RPCAsyncSequence<Smirun_V1_RelayRequest, any Error>,
        response: RPCWriter<Smirun_V1_RelayReply>,
        context: ServerContext
    ) async throws {
        for try await message in request {
            if case .open(let open) = message.message, open.user == "nobody" { return }
            try await response.write(.with { $0.data = message.data })
        }
    }

    func fetchImage(
        request: Smirun_V1_FetchImageRequest,
        response: RPCWriter<Smirun_V1_ImageChunk>,
        context: ServerContext
    ) async throws {}

    func smiStatus(request: Smirun_V1_SMIStatusRequest, context: ServerContext) async throws -> Smirun_V1_SMIStatusReply
    {
        .with { $0.state = "running" }
    }

    func stream(
        request: Smirun_V1_PeerCallRequest,
        response: RPCWriter<Smirun_V1_PeerCallReply>,
        context: ServerContext
    ) async throws {
        for byte in request.json { try await response.write(.with { $0.json = Data([byte]) }) }
    }
}
