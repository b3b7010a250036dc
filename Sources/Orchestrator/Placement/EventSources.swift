import Logging
import Mobility
import NIOCore
import NIOSSL
import Synchronization

/// The event sources of a daemon: the ones in use, and how to make new ones where they could not be opened.
final class EventSources: Sendable {
    private struct State {
        var names: [String] = []
        var current: RoamingSources
    }

    private let configuration: RoamingSourcesConfiguration
    private let runDirectory: String
    private let logger: Logger
    private let state: Mutex<State>

    /// Checks the configuration and opens nothing yet.
    ///
    /// - Throws: `RoamingError` naming the key that cannot be used.
    init(configuration: RoamingSourcesConfiguration, runDirectory: String, logger: Logger) throws(RoamingError) {
        self.configuration = configuration
        self.runDirectory = runDirectory
        self.logger = logger
        state = Mutex(State(current: try Self.make(configuration, [], runDirectory, logger)))
    }

    /// The sources in use.
    var current: RoamingSources { state.withLock { $0.current } }

    /// Replaces the names of the access points.
    func update(_ names: [String]) {
        state.withLock { $0.names = names }
        do {
            try current.update(accessPoints: names)
        } catch {
            logger.error("access points not taken over", metadata: ["cause": "\(error.cause)"])
        }
    }

    /// Makes sources that have not run: those that ended do not run again.
    func renew() throws(RoamingError) {
        let names = state.withLock { $0.names }
        let sources = try Self.make(configuration, names, runDirectory, logger)
        state.withLock { $0.current = sources }
    }

    private static func make(
        _ configuration: RoamingSourcesConfiguration,
        _ names: [String],
        _ runDirectory: String,
        _ logger: Logger
    ) throws(RoamingError) -> RoamingSources {
        try RoamingSources(
            configuration: configuration,
            accessPoints: names,
            runDirectory: runDirectory,
            tls: secure,
            logger: logger
        )
    }

    /// Checks subscribers' certificates against the system's authorities.
    private static func secure(_ channel: any Channel, host: String) throws {
        let context = try NIOSSLContext(configuration: .makeClientConfiguration())
        let isAddress = (try? SocketAddress(ipAddress: host, port: 0)) != nil
        let handler = try NIOSSLClientHandler(context: context, serverHostname: isAddress ? nil : host)
        try channel.pipeline.syncOperations.addHandler(handler)
    }
}
