import Foundation
import GRPCCore
import Testing

@testable import Orchestrator

/// Figures, printed and not judged: machines differ.
@Suite("Figures of the transport", .serialized, .timeLimit(.minutes(10)))
struct TransportFigures {
    @Test("unary call and store requests over mutual TLS")
    func unaryLatency() async throws {
        let cluster = try TestCluster()
        let store = MemoryStore()
        try await withServer(try await cluster.serve([StoreService(store), EchoPeer()])) { server in
            let connections = cluster.connections()
            let clock = ContinuousClock()
            var connection: PeerConnection?
            let first = try await clock.measure {
                connection = try await connections.connection(to: "h1", at: server.address)
            }
            let peer = try #require(connection)
            let calls = try await spread(300) { _ = try await peer.call("echo", [1, 2, 3], limit: .seconds(60)) }
            let remote = RemoteStore(connections: connections, host: "h1", at: try server.address, limit: .seconds(60))
            let puts = try await spread(300) { try await remote.put("k", [1, 2, 3], expect: .any) }
            let gets = try await spread(300) { _ = try await remote.get("k") }
            await connections.close(grace: .zero)
            print("figure: connect, handshake and greeting \(Spread.milliseconds(first)) ms")
            print("figure: unary call \(calls.text)")
            print("figure: remote put (memory) \(puts.text)")
            print("figure: remote get (memory) \(gets.text)")
        }
    }

    @Test("bytes from client to server in one stream", arguments: [64, 256, 1024])
    func throughput(kilobytes: Int) async throws {
        let cluster = try TestCluster()
        try await withServer(try await cluster.serve([EchoPeer()])) { server in
            let connections = cluster.connections()
            let peer = try await connections.connection(to: "h1", at: server.address)
            let data = Data(repeating: 7, count: kilobytes << 10)
            let count = 128 * 1024 / kilobytes
            let call = peer.handoff()
            let taken = try await ContinuousClock().measure {
                for _ in 0..<count { try await call.send(.with { $0.chunk.data = data }) }
                call.finish()
                while try await call.next() != nil {}
            }
            await connections.close(grace: .zero)
            let rate = 128 / (taken / .seconds(1))
            print("figure: stream of \(kilobytes) KiB messages: \(String(format: "%.0f", rate)) MiB/s")
        }
    }

    private func spread(_ count: Int, _ body: () async throws -> Void) async throws -> Spread {
        let clock = ContinuousClock()
        for _ in 0..<20 { try await body() }
        var durations: [Duration] = []
        for _ in 0..<count { durations.append(try await clock.measure(body)) }
        return Spread(durations)
    }
}
