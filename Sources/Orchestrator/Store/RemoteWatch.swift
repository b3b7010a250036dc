import GRPCCore
import Synchronization

/// A watch over the network that outlives connections: after each loss it starts again with a fresh snapshot, so its
/// consumer may miss intermediate values but never the latest one.
enum RemoteWatch {
    static func start(
        prefix: String,
        name: String,
        connect: @escaping RemoteStore.Connect
    ) -> AsyncThrowingStream<StoreEvent, any Error> {
        let (stream, continuation) = AsyncThrowingStream<StoreEvent, any Error>.makeStream(
            bufferingPolicy: .bufferingOldest(16384)
        )
        let task = Task {
            do {
                _ = try StoreKey(prefix: prefix)
                try await follow(prefix, connect, continuation)
                continuation.finish()
            } catch {
                continuation.finish(throwing: StoreError(error, asking: name))
            }
        }
        continuation.onTermination = { _ in task.cancel() }
        return stream
    }

    /// Connects again and again; returns when cancelled, throws where trying again cannot help.
    private static func follow(
        _ prefix: String,
        _ connect: RemoteStore.Connect,
        _ continuation: AsyncThrowingStream<StoreEvent, any Error>.Continuation
    ) async throws {
        let pauses = Pauses()
        while !Task.isCancelled {
            do {
                let store = try await connect().store
                try await store.watch(.with { $0.prefix = prefix }) { response in
                    var snapshot = SnapshotAssembly()
                    for try await reply in response.messages {
                        guard let event = try event(reply, &snapshot) else { continue }
                        pauses.reset()
                        guard case .enqueued = continuation.yield(event) else { throw fellBehind }
                    }
                }
            } catch let error as StoreError where !error.isUnavailable || error == fellBehind {
                throw error
            } catch let error as OrchestratorError where error.code == .version {
                throw error
            } catch {
                // The store's host is away, or ended the watch because it fell behind: start again.
            }
            try? await Task.sleep(for: pauses.next())
        }
    }

    private static func event(
        _ reply: Smirun_V1_StoreWatchReply,
        _ snapshot: inout SnapshotAssembly
    ) throws -> StoreEvent? {
        switch reply.event {
        case .snapshot(let piece):
            try snapshot.add(piece).map { .snapshot($0, revision: $1) }
        case .put(let entry): .put(StoreEntry(entry))
        case .deletion(let deletion): .deleted(key: deletion.key, revision: deletion.revision)
        case .failure(let failure): throw StoreError(failure)
        // An event of a newer version: what it changed is not known, a fresh snapshot has it.
        case nil: throw RPCError(code: .unavailable, message: "an event of the store cannot be understood")
        }
    }

    private static let fellBehind = StoreError.unavailable(
        cause: "a watch of the store fell behind",
        remedy: "watch again; the first event is a fresh snapshot"
    )
}

extension StoreError {
    fileprivate var isUnavailable: Bool {
        if case .unavailable = self { true } else { false }
    }
}

/// Growing pauses between attempts to connect.
private final class Pauses: Sendable {
    private let failures = Atomic(0)

    func reset() { failures.store(0, ordering: .relaxed) }

    func next() -> Duration {
        let (count, _) = failures.add(1, ordering: .relaxed)
        return min(.milliseconds(20) * (1 << min(count, 6)), .seconds(1))
    }
}

/// Puts the pieces of a snapshot together.
struct SnapshotAssembly {
    private var entries: [StoreEntry] = []

    /// Takes a piece; the whole once the last one has come.
    mutating func add(_ piece: Smirun_V1_StoreListReply) throws(StoreError) -> ([StoreEntry], revision: Int64)? {
        if piece.hasFailure { throw StoreError(piece.failure) }
        entries += piece.entries.map(StoreEntry.init)
        guard piece.complete else { return nil }
        defer { entries = [] }
        return (entries, piece.revision)
    }
}
