import GRPCCore
import GRPCNIOTransportHTTP2Posix

/// The client side of every connection.
package typealias ClusterTransport = HTTP2ClientTransport.Posix

/// HTTP/2 settings of all our connections, and why.
///
/// Flow-control windows of 16 MiB and frames of 1 MiB: the defaults (64 KiB, 16 KiB) hold a stream to one window per
/// round trip and cost four times the system calls. Delayed flushes are off: they cost each unary call up to 0.1 ms on
/// either side, and our streams write large messages anyway. Pings find a host that was cut off within 15 s.
enum TransportTuning {
    static let window = 16 << 20
    static let frame = 1 << 20
    static let largestMessage = 16 << 20
    static let pingInterval = Duration.seconds(10)
    static let pingAnswer = Duration.seconds(5)

    /// Settings of a listener.
    static func server() -> HTTP2ServerTransport.Custom<SecureListener>.Config {
        var config = HTTP2ServerTransport.Custom<SecureListener>.Config.defaults
        config.http2.maxFrameSize = frame
        config.http2.targetWindowSize = window
        config.rpc.maxRequestPayloadSize = largestMessage
        config.connection.flushCoalescing = nil
        config.connection.keepalive.time = pingInterval
        config.connection.keepalive.timeout = pingAnswer
        config.connection.keepalive.clientBehavior.allowWithoutCalls = true
        config.connection.keepalive.clientBehavior.minPingIntervalWithoutCalls = .seconds(5)
        return config
    }

    /// Settings of a client.
    static func client() -> HTTP2ClientTransport.Posix.Config {
        .defaults { config in
            config.http2.maxFrameSize = frame
            config.http2.targetWindowSize = window
            config.connection.flushCoalescing = nil
            config.connection.keepalive = .init(time: pingInterval, timeout: pingAnswer, allowWithoutCalls: true)
            config.backoff = .init(initial: .milliseconds(50), max: .seconds(2), multiplier: 1.6, jitter: 0.2)
        }
    }

    /// Limits that hold where a call names none: unary calls end, streams live as long as they are needed.
    static func limits(unary: Duration) -> ServiceConfig {
        let methods: [MethodDescriptor] =
            [Smirun_V1_Greeting.Method.Hello.descriptor]
            + [Smirun_V1_Store.Method.Get.descriptor, Smirun_V1_Store.Method.Put.descriptor]
            + [Smirun_V1_Store.Method.Delete.descriptor, Smirun_V1_Store.Method.List.descriptor]
            + [Smirun_V1_Peer.Method.SMIStatus.descriptor, Smirun_V1_Peer.Method.Call.descriptor]
            + [Smirun_V1_Enroll.Method.Join.descriptor]
        let names = methods.map {
            MethodConfig.Name(service: $0.service.fullyQualifiedService, method: $0.method)
        }
        let all = MethodConfig(names: [.init(service: "")], maxResponseMessageBytes: largestMessage)
        let limited = MethodConfig(names: names, timeout: unary, maxResponseMessageBytes: largestMessage)
        return ServiceConfig(methodConfig: [all, limited])
    }
}
