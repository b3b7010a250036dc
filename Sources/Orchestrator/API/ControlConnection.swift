import Synchronization

/// The command line's connection to its daemon, in terms of the control methods.
package struct ControlConnection: Sendable {
    private let client: ControlClient

    /// Connects, runs `body` and disconnects.
    package static func with<Value: Sendable>(
        socket: String,
        build: String,
        _ body: (ControlConnection) async throws -> Value
    ) async throws -> Value {
        let client = try await ControlClient.connect(path: socket, build: build)
        do {
            let value = try await body(ControlConnection(client: client))
            await client.close()
            return value
        } catch {
            await client.close()
            throw error
        }
    }

    /// One request, one JSON document.
    package func call(_ method: ControlMethod, _ json: [UInt8]) async throws -> [UInt8] {
        try await client.call(method.rawValue, json)
    }

    /// One request, documents until `receive` returns a value or the answer ends.
    package func stream<Value: Sendable>(
        _ method: ControlMethod,
        _ json: [UInt8],
        _ receive: @escaping @Sendable ([UInt8]) throws -> Value?
    ) async throws -> Value? {
        let found = Mutex<Value?>(nil)
        do {
            try await client.stream(method.rawValue, json) { document in
                guard let value = try receive(document) else { return }
                found.withLock { $0 = value }
                throw EnoughRead()
            }
        } catch {
            if let value = found.withLock({ $0 }) { return value }
            throw error
        }
        return nil
    }
}

/// Ends a stream whose reader has what it wanted.
private struct EnoughRead: Error {}
