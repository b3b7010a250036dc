import Foundation
import GRPCCore
import Synchronization
import Testing

@testable import Orchestrator

/// What the network adds to the store.
@Suite("The remote store", .serialized, .timeLimit(.minutes(5)))
struct RemoteStoreTests {
    @Test("goes on with a watch after its server died, with a fresh snapshot and no change lost")
    func watchOverRestart() async throws {
        let cluster = try TestCluster()
        let store = MemoryStore()
        let connections = cluster.connections()
        let first = try await cluster.serve([StoreService(store)])
        let address = try first.address
        let remote = RemoteStore(connections: connections, host: "h1", at: address, limit: .seconds(240))
        var events = remote.watch(prefix: "smi/").makeAsyncIterator()
        #expect(try await events.next() == .snapshot([], revision: 0))
        try await store.put("smi/a", [1], expect: .any)
        #expect(try await events.next() == .put(StoreEntry(key: "smi/a", value: [1], revision: 1)))

        await first.stop(grace: .zero)
        try await store.put("smi/a", [2], expect: .any)
        try await store.put("smi/b", [3], expect: .any)
        try await withServer(try await cluster.serve([StoreService(store)], port: address.port)) { _ in
            let contents = [
                StoreEntry(key: "smi/a", value: [2], revision: 2), StoreEntry(key: "smi/b", value: [3], revision: 3),
            ]
            #expect(try await events.next() == .snapshot(contents, revision: 3))
            try await store.delete("smi/a", expect: .any)
            #expect(try await events.next() == .deleted(key: "smi/a", revision: 4))
            await connections.close(grace: .zero)
        }
    }

    @Test("reports a write that was sent and not answered as in doubt, and never repeats it")
    func unansweredWrite() async throws {
        let cluster = try TestCluster()
        let (arrivals, arrived) = AsyncStream<Void>.makeStream()
        let store = SilentStore { arrived.yield() }
        let server = try await cluster.serve([StoreService(store)])
        let connections = cluster.connections()
        let remote = RemoteStore(connections: connections, host: "h1", at: try server.address, limit: .seconds(240))
        let write = Task { try await remote.put("k", [1], expect: .absent) }
        for await _ in arrivals { break }
        await server.stop(grace: .zero)
        let error = try await failure(StoreError.self) { try await write.value }
        guard case .inDoubt = error else {
            Issue.record("\(error)")
            return
        }
        #expect(store.writes == 1)
        await connections.close(grace: .zero)
    }

    @Test("reports a write that is cut off by its time limit as in doubt")
    func slowWrite() async throws {
        let cluster = try TestCluster()
        let (arrivals, arrived) = AsyncStream<Void>.makeStream()
        let store = SilentStore { arrived.yield() }
        try await withServer(try await cluster.serve([StoreService(store)])) { server in
            let connections = cluster.connections()
            let address = try server.address
            // Connected first, so that the limit is spent on the write.
            _ = try await connections.connection(to: "h1", at: address)
            let remote = RemoteStore(connections: connections, host: "h1", at: address, limit: .seconds(6))
            let write = Task { try await remote.put("k", [1], expect: .absent) }
            for await _ in arrivals { break }
            let error = try await failure(StoreError.self) { try await write.value }
            guard case .inDoubt = error else {
                Issue.record("\(error)")
                return
            }
            #expect(store.writes == 1)
            await connections.close(grace: .zero)
        }
    }

    @Test("reports a store that is away as unavailable, within the time limit")
    func away() async throws {
        let cluster = try TestCluster()
        let server = try await cluster.serve([])
        let address = try server.address
        await server.stop(grace: .zero)
        let connections = cluster.connections()
        let remote = RemoteStore(connections: connections, host: "h1", at: address, limit: .milliseconds(300))
        for request in 0..<4 {
            let error = try await failure(StoreError.self) {
                switch request {
                case 0: _ = try await remote.get("k")
                case 1: _ = try await remote.list(prefix: "k")
                case 2: try await remote.put("k", [], expect: .any)
                default: try await remote.delete("k", expect: .any)
                }
            }
            guard case .unavailable(let cause, let remedy) = error else {
                Issue.record("\(error)")
                continue
            }
            #expect(cause.contains("h1") && !remedy.isEmpty)
        }
        await connections.close(grace: .zero)
    }

    @Test("waits for a store that is being restarted")
    func restart() async throws {
        let cluster = try TestCluster()
        let store = MemoryStore()
        let first = try await cluster.serve([StoreService(store)])
        let address = try first.address
        let connections = cluster.connections()
        let remote = RemoteStore(connections: connections, host: "h1", at: address, limit: .seconds(240))
        try await remote.put("k", [1], expect: .absent)
        let connection = try await connections.connection(to: "h1", at: address)
        await first.stop(grace: .zero)
        // A write on a connection that is just breaking would rightly be in doubt.
        await connection.waitUntilBroken()
        let write = Task { try await remote.put("k", [2], expect: .revision(1)) }
        let read = Task { try await remote.get("other") }
        try await withServer(try await cluster.serve([StoreService(store)], port: address.port)) { _ in
            let (written, found) = (try await write.value, try await read.value)
            #expect(written == 2)
            #expect(found == nil)
            await connections.close(grace: .zero)
        }
    }

    @Test("does not wait for a daemon that speaks another version")
    func otherVersion() async throws {
        let cluster = try TestCluster()
        var greeting = Greeting(host: "h1", build: "9.0", cluster: cluster.server.cluster)
        greeting.protocolVersion = ProtocolVersion(min: 9, max: 9)
        try await withServer(try await cluster.serve([StoreService(MemoryStore())], greeting: greeting)) { server in
            let connections = cluster.connections()
            let remote = RemoteStore(connections: connections, host: "h1", at: try server.address, limit: .seconds(600))
            let error = try await failure(StoreError.self) { try await remote.get("k") }
            #expect(error.cause.contains("version 9"))
            await #expect(throws: StoreError.self) { for try await _ in remote.watch(prefix: "") {} }
            await connections.close(grace: .zero)
        }
    }
}

/// A store whose writes never return, as if its host had died in the middle.
private final class SilentStore: ClusterStore, Sendable {
    private let arrived: @Sendable () -> Void
    private let memory = MemoryStore()
    private let count = Counter()

    init(arrived: @escaping @Sendable () -> Void) {
        self.arrived = arrived
    }

    var writes: Int { count.value }

    func get(_ key: String) async throws(StoreError) -> StoreEntry? { try await memory.get(key) }

    func list(prefix: String) async throws(StoreError) -> [StoreEntry] { try await memory.list(prefix: prefix) }

    func put(_ key: String, _ value: [UInt8], expect: StoreExpectation) async throws(StoreError) -> Int64 {
        count.add()
        arrived()
        // Ends with the server's calls.
        try? await Task.sleep(for: .seconds(3600))
        throw .unavailable(cause: "ended", remedy: "")
    }

    func delete(_ key: String, expect: StoreExpectation) async throws(StoreError) -> Int64 {
        try await put(key, [], expect: expect)
    }

    func watch(prefix: String) -> AsyncThrowingStream<StoreEvent, any Error> { memory.watch(prefix: prefix) }
}

private final class Counter: Sendable {
    private let store = Mutex(0)
    var value: Int { store.withLock { $0 } }
    func add() { store.withLock { $0 += 1 } }
}
