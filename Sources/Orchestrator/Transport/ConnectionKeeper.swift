import GRPCNIOTransportHTTP2Posix
import NIOCore
import Synchronization

/// Holds on to every accepted connection of a server until it is closed.
///
/// A connection that is accepted while its server stops is handed to nobody, and NIO ends the process when the object
/// of an open connection is merely dropped (`NIOAsyncWriter`'s deinit). For the same reason a server is stopped by
/// closing its connections, not by cancelling the task that serves them.
final class ConnectionKeeper: Sendable {
    typealias Connection = HTTP2ServerTransport.ConnectionConfigurator.ConnectionChannel

    private struct State {
        var connections: [ObjectIdentifier: (channel: any Channel, connection: Connection)] = [:]
        var isClosed = false
    }

    private let state = Mutex(State())

    /// Takes a connection; closes it at once when the server has stopped.
    func keep(_ connection: Connection, on channel: any Channel) {
        let id = ObjectIdentifier(channel)
        let isClosed = state.withLock { state in
            state.connections[id] = (channel, connection)
            return state.isClosed
        }
        channel.closeFuture.whenComplete { [weak self] _ in
            // Dropped outside the lock.
            _ = self?.state.withLock { $0.connections.removeValue(forKey: id) }
        }
        if isClosed { channel.close(promise: nil) }
    }

    /// Closes all connections, and those that still come.
    func closeAll() {
        let channels = state.withLock { state in
            state.isClosed = true
            return state.connections.values.map(\.channel)
        }
        for channel in channels { channel.close(promise: nil) }
    }
}
