import FoundationEssentials
import GRPCCore
import GRPCProtobuf
import SwiftProtobuf
import Synchronization

/// The cluster store of another host, over its connection.
///
/// While the host is being restarted, requests wait for it until their time limit. Reads are repeated freely; a write
/// only as long as it provably was not sent: one that was sent and not answered is in doubt, and the caller has to read.
package final class RemoteStore: ClusterStore {
    /// Gives a connection to the host that serves the store, making one where necessary.
    package typealias Connect = @Sendable () async throws -> PeerConnection

    private let connect: Connect
    private let limit: Duration
    private let name: String

    /// A store that `host` serves; `limit` holds for each request, connecting included.
    package convenience init(
        connections: PeerConnections,
        host: String,
        at address: PeerAddress,
        limit: Duration = .seconds(5)
    ) {
        self.init(name: "the store on host \(host)", limit: limit) {
            try await connections.connection(to: host, at: address)
        }
    }

    /// A store that is reached through `connect`, for hosts that may change.
    package init(name: String, limit: Duration = .seconds(5), connect: @escaping Connect) {
        self.name = name
        self.limit = limit
        self.connect = connect
    }

    package func get(_ key: String) async throws(StoreError) -> StoreEntry? {
        let request = Smirun_V1_StoreGetRequest.with { $0.key = key }
        let reply = try await read { store, options in try await store.get(request, options: options) }
        if reply.hasFailure { throw StoreError(reply.failure) }
        return reply.hasEntry ? StoreEntry(reply.entry) : nil
    }

    package func list(prefix: String) async throws(StoreError) -> [StoreEntry] {
        let request = Smirun_V1_StoreListRequest.with { $0.prefix = prefix }
        return try await read { store, options in
            try await store.list(request, options: options) { response in
                var snapshot = SnapshotAssembly()
                for try await piece in response.messages {
                    if let (entries, _) = try snapshot.add(piece) { return entries }
                }
                throw RPCError(code: .unavailable, message: "the list ended early")
            }
        }
    }

    @discardableResult
    package func put(
        _ key: String,
        _ value: [UInt8],
        expect: StoreExpectation
    ) async throws(StoreError) -> Int64 {
        // Checked here too: a value that is too large would not get through, and "not sent" is certain now.
        _ = try StoreKey(key)
        try StoreKey.check(value: value)
        let request = Smirun_V1_StorePutRequest.with {
            $0.key = key
            $0.value = Data(value)
            $0.expectation = expect.message
        }
        return try await write { store, mark, options in
            try await store.put(
                request: ClientRequest(message: request),
                serializer: MarkingSerializer(mark: mark),
                deserializer: ProtobufDeserializer(),
                options: options
            )
        }
    }

    @discardableResult
    package func delete(_ key: String, expect: StoreExpectation) async throws(StoreError) -> Int64 {
        _ = try StoreKey(key)
        let request = Smirun_V1_StoreDeleteRequest.with {
            $0.key = key
            $0.expectation = expect.message
        }
        return try await write { store, mark, options in
            try await store.delete(
                request: ClientRequest(message: request),
                serializer: MarkingSerializer(mark: mark),
                deserializer: ProtobufDeserializer(),
                options: options
            )
        }
    }

    package func watch(prefix: String) -> AsyncThrowingStream<StoreEvent, any Error> {
        RemoteWatch.start(prefix: prefix, name: name, connect: connect)
    }

    private typealias Client = Smirun_V1_Store.Client<ClusterTransport>

    private func read<Value: Sendable>(
        _ call: @Sendable (Client, CallOptions) async throws -> Value
    ) async throws(StoreError) -> Value {
        try await attempt({ store, _, options in try await call(store, options) }, failed: { $1 })
    }

    private func write(
        _ call: @Sendable (Client, SentMark, CallOptions) async throws -> Smirun_V1_StorePutReply
    ) async throws(StoreError) -> Int64 {
        let name = name
        let reply = try await attempt(call) { mark, error in
            guard mark.isSet else { return error }
            return .inDoubt(
                cause: "\(name) did not answer a write: \(error.cause)",
                remedy: "read the key again before anything else is decided"
            )
        }
        return try reply.revisionOrError()
    }

    /// Makes a call until it is answered, until `failed` says that it must not be repeated, or until the time limit.
    ///
    /// `failed` judges a failed attempt; everything but `unavailable` ends it all.
    private func attempt<Value: Sendable>(
        _ call: @Sendable (Client, SentMark, CallOptions) async throws -> Value,
        failed: (SentMark, StoreError) -> StoreError
    ) async throws(StoreError) -> Value {
        let deadline = ContinuousClock.now + limit
        var pause = Duration.milliseconds(20)
        while true {
            let mark = SentMark()
            do {
                let store = try await connect().store
                return try await call(store, mark, .limited(max(deadline - .now, .milliseconds(1))))
            } catch {
                let verdict = failed(mark, StoreError(error, asking: name))
                let isFinal = (error as? OrchestratorError)?.code == .version || Task.isCancelled
                guard case .unavailable = verdict, !isFinal, .now + pause < deadline else { throw verdict }
            }
            do {
                try await Task.sleep(for: pause)
            } catch {
                throw StoreError(error, asking: name)
            }
            pause = min(pause * 2, .milliseconds(500))
        }
    }
}

extension StoreError {
    /// What a failed call to a remote store means as long as nothing was written.
    init(_ error: any Error, asking name: String) {
        if let error = error as? StoreError {
            self = error
            return
        }
        let error = OrchestratorError(error, calling: name)
        self = .unavailable(cause: error.cause, remedy: error.remedy)
    }
}

/// Whether a request has left for the network.
final class SentMark: Sendable {
    private let flag = Atomic(false)

    var isSet: Bool { flag.load(ordering: .acquiring) }

    func set() { flag.store(true, ordering: .releasing) }
}

/// Serialises as usual and sets a mark: gRPC serialises a message when it has a stream to write it to, so a request
/// without the mark was never sent.
private struct MarkingSerializer<Message: SwiftProtobuf.Message>: MessageSerializer {
    let mark: SentMark

    func serialize<Bytes: GRPCContiguousBytes>(_ message: Message) throws -> Bytes {
        mark.set()
        return try ProtobufSerializer().serialize(message)
    }
}
