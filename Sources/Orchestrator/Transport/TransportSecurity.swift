import FoundationEssentials
import GRPCCore
import GRPCNIOTransportHTTP2Posix
import NIOCore
import NIOSSL
import NIOTLS
import X509

/// Judges the certificates that a server shows; runs on the connection's event loop.
typealias VerificationCallback =
    @Sendable (_ shown: [NIOSSLCertificate], _ verdict: EventLoopPromise<NIOSSLVerificationResult>) -> Void

/// How connections are secured: TLS 1.3 only, with handlers of our own in front of gRPC's, because gRPC's own
/// configuration would accept TLS 1.2.
enum TransportSecurity {
    /// For listeners that only hosts of the cluster may use: a client certificate of its authority is required.
    static func serverContext(_ identity: HostIdentity, clients: ClientCertificates) throws -> NIOSSLContext {
        var tls = TLSConfiguration.makeServerConfiguration(
            certificateChain: try identity.chain.map { .certificate(try $0.nio()) },
            privateKey: .privateKey(try identity.key.nio())
        )
        tls.minimumTLSVersion = .tlsv13
        tls.applicationProtocols = ["h2"]
        switch clients {
        case .required:
            tls.certificateVerification = .noHostnameVerification
            tls.trustRoots = .certificates([try identity.authority.nio()])
        case .none:
            tls.certificateVerification = .none
        }
        return try NIOSSLContext(configuration: tls)
    }

    /// For connections to another host: shows our certificate, verifies the other's against the cluster's authority.
    static func clientContext(_ identity: HostIdentity) throws -> NIOSSLContext {
        var tls = TLSConfiguration.makeClientConfiguration()
        tls.certificateChain = try identity.chain.map { .certificate(try $0.nio()) }
        tls.privateKey = .privateKey(try identity.key.nio())
        tls.minimumTLSVersion = .tlsv13
        tls.applicationProtocols = ["h2"]
        tls.certificateVerification = .fullVerification
        tls.trustRoots = .certificates([try identity.authority.nio()])
        return try NIOSSLContext(configuration: tls)
    }

    /// For a host that has no certificate yet: the chain is judged by a callback.
    static func joiningContext() throws -> NIOSSLContext {
        var tls = TLSConfiguration.makeClientConfiguration()
        tls.minimumTLSVersion = .tlsv13
        tls.applicationProtocols = ["h2"]
        tls.certificateVerification = .fullVerification
        return try NIOSSLContext(configuration: tls)
    }

    enum ClientCertificates {
        case required
        case none
    }

    /// Puts TLS in front of every connection that a listener accepts.
    static func secure(_ config: inout HTTP2ServerTransport.Posix.Config, with context: NIOSSLContext) {
        config.channelDebuggingCallbacks.onAcceptTCPConnection = { channel in
            channel.eventLoop.makeCompletedFuture {
                let pipeline = channel.pipeline.syncOperations
                try pipeline.addHandler(HandshakeDeadline(limit: .seconds(10)), position: .first)
                try pipeline.addHandler(NIOSSLServerHandler(context: context), position: .first)
            }
        }
    }

    /// Puts TLS in front of every connection that a client makes.
    ///
    /// - Parameters:
    ///   - host: The name that the server's certificate must carry.
    ///   - diary: Learns of errors and of the connection's end.
    static func secure(
        _ config: inout HTTP2ClientTransport.Posix.Config,
        with context: NIOSSLContext,
        host: String,
        diary: ConnectionDiary,
        verify: VerificationCallback? = nil
    ) {
        config.http2.authority = host
        config.channelDebuggingCallbacks.onCreateTCPConnection = { channel in
            diary.follow(channel)
            return channel.eventLoop.makeCompletedFuture {
                let pipeline = channel.pipeline.syncOperations
                try pipeline.addHandler(ConnectionDiary.Scribe(diary), position: .first)
                let handler =
                    try verify.map {
                        try NIOSSLClientHandler(context: context, serverHostname: host, customVerificationCallback: $0)
                    } ?? NIOSSLClientHandler(context: context, serverHostname: host)
                try pipeline.addHandler(handler, position: .first)
            }
        }
    }
}

/// Closes a connection whose TLS handshake is not done in time, so that silent strangers hold nothing.
final class HandshakeDeadline: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = NIOAny

    private let limit: TimeAmount
    private var timer: Scheduled<Void>?

    init(limit: TimeAmount) {
        self.limit = limit
    }

    func handlerAdded(context: ChannelHandlerContext) {
        let channel = context.channel
        timer = context.eventLoop.scheduleTask(in: limit) { channel.close(promise: nil) }
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        timer?.cancel()
    }

    func channelInactive(context: ChannelHandlerContext) {
        timer?.cancel()
        context.fireChannelInactive()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .handshakeCompleted? = event as? TLSUserEvent { timer?.cancel() }
        context.fireUserInboundEventTriggered(event)
    }
}

extension ServerContext {
    /// The host that calls, from its verified certificate; nil on the unix socket and for a joining host.
    package var peerHost: String? {
        (transportSpecific as? HTTP2ServerTransport.Posix.Context)?.peerCertificate?.hostName
    }
}

extension Certificate {
    func nio() throws -> NIOSSLCertificate {
        try NIOSSLCertificate(bytes: der, format: .der)
    }
}

extension Certificate.PrivateKey {
    func nio() throws -> NIOSSLPrivateKey {
        try NIOSSLPrivateKey(bytes: Array(serializeAsPEM().pemString.utf8), format: .pem)
    }
}
