import GRPCCore
import GRPCNIOTransportHTTP2Posix
import NIOCore
import NIOPosix
import NIOSSL
import NIOTLS
import Synchronization
import X509

/// Accepts the connections of one server.
///
/// gRPC's own listener would accept TLS 1.2 and parse the caller's certificate again for every call.
struct SecureListener: HTTP2ServerTransport.ListenerFactory {
    enum Address: Sendable {
        case tcp(NIOCore.SocketAddress)
        case unix(String)
    }

    let eventLoopGroup: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton
    let address: Address
    /// Nil for a unix socket.
    let tls: NIOSSLContext?
    /// Where the callers' names go; nil where callers have no certificate.
    let registry: PeerRegistry?
    let keeper = ConnectionKeeper()

    func makeListeningChannel(
        listenerConfigurator: HTTP2ServerTransport.ListenerConfigurator,
        connectionConfigurator: HTTP2ServerTransport.ConnectionConfigurator
    ) async throws -> NIOAsyncChannel<ConnectionKeeper.Connection, Never> {
        let bootstrap = ServerBootstrap(group: eventLoopGroup)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .serverChannelInitializer { listenerConfigurator.configure(channel: $0) }
        let accept: @Sendable (any Channel) -> EventLoopFuture<ConnectionKeeper.Connection> = { channel in
            admit(channel, connectionConfigurator)
        }
        switch address {
        case .tcp(let address):
            return try await bootstrap.bind(to: address, childChannelInitializer: accept)
        case .unix(let path):
            return try await bootstrap.bind(
                unixDomainSocketPath: path,
                cleanupExistingSocketFile: true,
                childChannelInitializer: accept
            )
        }
    }

    private func admit(
        _ channel: any Channel,
        _ configurator: HTTP2ServerTransport.ConnectionConfigurator
    ) -> EventLoopFuture<ConnectionKeeper.Connection> {
        channel.eventLoop.makeCompletedFuture {
            guard let tls else { return }
            let pipeline = channel.pipeline.syncOperations
            try pipeline.addHandler(NIOSSLServerHandler(context: tls))
            try pipeline.addHandler(HandshakeGate(limit: .seconds(10), registry: registry))
        }.flatMap {
            configurator.configure(channel: channel, tls: tls == nil ? .none : .configured(requireALPN: true))
        }.map { connection in
            keeper.keep(connection, on: channel)
            return connection
        }
    }
}

/// Lets a connection pass once its handshake is done: within a time limit, so that silent strangers hold nothing, and
/// from a host of the cluster where one is required.
final class HandshakeGate: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = NIOAny

    private let limit: TimeAmount
    private let registry: PeerRegistry?
    private var timer: Scheduled<Void>?
    private var registered: String?

    init(limit: TimeAmount, registry: PeerRegistry?) {
        self.limit = limit
        self.registry = registry
    }

    func handlerAdded(context: ChannelHandlerContext) {
        let channel = context.channel
        timer = context.eventLoop.scheduleTask(in: limit) { channel.close(promise: nil) }
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        end()
    }

    func channelInactive(context: ChannelHandlerContext) {
        end()
        context.fireChannelInactive()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .handshakeCompleted? = event as? TLSUserEvent {
            timer?.cancel()
            guard admit(context.channel) else { return context.close(promise: nil) }
        }
        context.fireUserInboundEventTriggered(event)
    }

    /// Writes down who it is, once for the whole connection.
    private func admit(_ channel: any Channel) -> Bool {
        guard let registry else { return true }
        guard let shown = try? channel.pipeline.syncOperations.nioSSL_peerCertificate(),
            let certificate = try? Certificate(derEncoded: shown.toDERBytes()),
            let host = certificate.hostName, HostName.isValid(host),
            let address = channel.remoteAddress.flatMap(PeerRegistry.name)
        else { return false }
        registry.add(address, host)
        registered = address
        return true
    }

    private func end() {
        timer?.cancel()
        if let registered { registry?.remove(registered) }
        registered = nil
    }
}

/// Which host is at the other end of each connection of a server.
final class PeerRegistry: Sendable {
    private let hosts = Mutex<[String: String]>([:])

    func add(_ address: String, _ host: String) {
        hosts.withLock { $0[address] = host }
    }

    func remove(_ address: String) {
        hosts.withLock { hosts in
            hosts[address] = nil
        }
    }

    func host(at address: String) -> String? {
        hosts.withLock { $0[address] }
    }

    /// An address as gRPC writes it in `ServerContext.remotePeer`.
    static func name(_ address: NIOCore.SocketAddress) -> String? {
        guard let port = address.port else { return nil }
        switch address {
        case .v4(let ip): return "ipv4:\(ip.host):\(port)"
        case .v6(let ip): return "ipv6:[\(ip.host)]:\(port)"
        case .unixDomainSocket: return nil
        }
    }
}

/// Tells each call's handler which host calls.
struct PeerNaming: ServerInterceptor {
    let registry: PeerRegistry

    func intercept<Input: Sendable, Output: Sendable>(
        request: StreamingServerRequest<Input>,
        context: ServerContext,
        next: @Sendable (StreamingServerRequest<Input>, ServerContext) async throws -> StreamingServerResponse<Output>
    ) async throws -> StreamingServerResponse<Output> {
        guard let host = registry.host(at: context.remotePeer) else {
            throw RPCError(code: .unauthenticated, message: "the caller's certificate is not known")
        }
        var context = context
        context.transportSpecific = CallingHost(name: host)
        return try await next(request, context)
    }
}

/// Attached to the context of every call between daemons.
private struct CallingHost: ServerContext.TransportSpecific {
    let name: String
}

extension ServerContext {
    /// The host that calls, from its verified certificate; nil on the unix socket and for a joining host.
    package var peerHost: String? { (transportSpecific as? CallingHost)?.name }
}
