import GRPCCore

/// Serves any store to the other hosts.
package struct StoreService: Smirun_V1_Store.SimpleServiceProtocol {
    private let store: any ClusterStore
    /// A piece of a snapshot is sent once it holds this much.
    private static let pieceBytes = 1 << 20

    /// A service in front of a store.
    package init(_ store: any ClusterStore) {
        self.store = store
    }

    package func get(
        request: Smirun_V1_StoreGetRequest,
        context: ServerContext
    ) async throws -> Smirun_V1_StoreGetReply {
        do {
            let entry = try await store.get(request.key)
            return .with { reply in
                if let entry { reply.entry = entry.message }
            }
        } catch {
            return .with { $0.failure = error.message }
        }
    }

    package func put(
        request: Smirun_V1_StorePutRequest,
        context: ServerContext
    ) async throws -> Smirun_V1_StorePutReply {
        do {
            let expect = try StoreExpectation(request.expectation)
            let revision = try await store.put(request.key, Array(request.value), expect: expect)
            return .with { $0.revision = revision }
        } catch {
            return Smirun_V1_StorePutReply(error)
        }
    }

    package func delete(
        request: Smirun_V1_StoreDeleteRequest,
        context: ServerContext
    ) async throws -> Smirun_V1_StorePutReply {
        do {
            let expect = try StoreExpectation(request.expectation)
            let revision = try await store.delete(request.key, expect: expect)
            return .with { $0.revision = revision }
        } catch {
            return Smirun_V1_StorePutReply(error)
        }
    }

    package func list(
        request: Smirun_V1_StoreListRequest,
        response: RPCWriter<Smirun_V1_StoreListReply>,
        context: ServerContext
    ) async throws {
        do {
            let entries = try await store.list(prefix: request.prefix)
            for piece in Self.pieces(entries, revision: 0) { try await response.write(piece) }
        } catch let error as StoreError {
            try await response.write(.with { $0.failure = error.message })
        }
    }

    package func watch(
        request: Smirun_V1_StoreWatchRequest,
        response: RPCWriter<Smirun_V1_StoreWatchReply>,
        context: ServerContext
    ) async throws {
        do {
            try await cancelling(context) {
                for try await event in store.watch(prefix: request.prefix) {
                    if case .snapshot(let entries, let revision) = event {
                        for piece in Self.pieces(entries, revision: revision) {
                            try await response.write(.with { $0.snapshot = piece })
                        }
                    } else if let change = event.change {
                        try await response.write(change)
                    }
                }
            }
        } catch let error as StoreError {
            try await response.write(.with { $0.failure = error.message })
        }
    }

    /// A snapshot as messages of moderate size, the last one marked.
    private static func pieces(_ entries: [StoreEntry], revision: Int64) -> [Smirun_V1_StoreListReply] {
        var pieces: [Smirun_V1_StoreListReply] = []
        var piece = Smirun_V1_StoreListReply.with { $0.revision = revision }
        var bytes = 0
        for entry in entries {
            piece.entries.append(entry.message)
            bytes += entry.key.utf8.count + entry.value.count + 16
            if bytes >= pieceBytes {
                pieces.append(piece)
                piece.entries = []
                bytes = 0
            }
        }
        piece.complete = true
        pieces.append(piece)
        return pieces
    }
}
