import GRPCCore
import GRPCNIOTransportHTTP2Posix
import NIOCore
import NIOSSL
import X509

/// Judges the certificates that a server shows; runs on the connection's event loop.
typealias VerificationCallback =
    @Sendable (_ shown: [NIOSSLCertificate], _ verdict: EventLoopPromise<NIOSSLVerificationResult>) -> Void

/// How connections are secured: TLS 1.3 only, with contexts of our own, because gRPC's configuration would accept 1.2.
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

    /// Puts TLS in front of every connection that a client makes.
    ///
    /// The server's certificate must carry the name `host`; `diary` learns of errors and of the connection's end.
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
