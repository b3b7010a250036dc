import Foundation
import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization

@testable import Mobility

/// Collects what a sink is given and lets a test wait for it.
final class Collector<Element: Sendable>: Sendable {
    private let elements = Mutex<[Element]>([])

    func add(_ element: Element) {
        elements.withLock { $0.append(element) }
    }

    var all: [Element] { elements.withLock { $0 } }

    /// Waits until the collection satisfies a condition, at most `seconds`; returns what is there then.
    func wait(seconds: Double = 20, until isDone: ([Element]) -> Bool) async -> [Element] {
        let end = ContinuousClock.now.advanced(by: .seconds(seconds))
        while !isDone(all), ContinuousClock.now < end { try? await Task.sleep(for: .milliseconds(10)) }
        return all
    }
}

/// Runs sources for the duration of a test.
func withSources<Result: Sendable>(
    _ configuration: RoamingSourcesConfiguration,
    accessPoints: [String] = [],
    runDirectory: String = "/tmp",
    _ body: @Sendable (RoamingSources, Collector<RoamingRecord>) async throws -> Result
) async throws -> Result {
    let sources = try RoamingSources(
        configuration: configuration,
        accessPoints: accessPoints,
        runDirectory: runDirectory,
        logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    )
    let records = Collector<RoamingRecord>()
    let task = Task { try await sources.run { records.add($0) } }
    let end = ContinuousClock.now.advanced(by: .seconds(20))
    while ContinuousClock.now < end {
        let listening = sources.listening
        if configuration.radius?.listen == nil || listening.radiusPort != nil,
            configuration.mec?.listen == nil || listening.httpPort != nil
        {
            break
        }
        try await Task.sleep(for: .milliseconds(5))
    }
    do {
        let result = try await body(sources, records)
        task.cancel()
        try await task.value
        return result
    } catch {
        task.cancel()
        _ = try? await task.value
        throw error
    }
}

/// A UDP socket of a RADIUS client, blocking with a timeout.
final class UDPClient {
    private let descriptor: Int32

    init(port: Int, timeoutMilliseconds: Int = 500) {
        descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
        var timeout = timeval(tv_sec: timeoutMilliseconds / 1000, tv_usec: timeoutMilliseconds % 1000 * 1000)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        _ = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }

    deinit { close(descriptor) }

    @discardableResult
    func send(_ bytes: [UInt8]) -> Bool {
        bytes.withUnsafeBytes { Foundation.send(descriptor, $0.baseAddress, $0.count, 0) } == bytes.count
    }

    func receive() -> [UInt8]? {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = buffer.withUnsafeMutableBytes { recv(descriptor, $0.baseAddress, $0.count, 0) }
        return count > 0 ? Array(buffer[..<count]) : nil
    }

    /// Sends a request, again where no answer comes, as access points do.
    func ask(_ bytes: [UInt8], attempts: Int = 10) -> [UInt8]? {
        for _ in 0..<attempts {
            send(bytes)
            while let answer = receive() {
                if RadiusClient.isSigned(answer, for: bytes) { return answer }
            }
        }
        return nil
    }
}

/// Processor time of this thread in seconds.
func threadSeconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

/// Resident memory of this process in bytes.
func residentMemory() -> Int {
    let fields = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8))?.split(separator: " ") ?? []
    return fields.count > 1 ? (Int(fields[1]) ?? 0) * 4096 : 0
}

/// A subscriber of MEC 021: answers with the statuses it is told to, then with 204.
enum Subscriber {
    /// A running subscriber.
    struct Running: Sendable {
        let port: Int
        let bodies: Collector<[UInt8]>
        let heads: Collector<HTTPRequestHead>
        let stop: @Sendable () async -> Void
    }

    static func start(statuses: [HTTPResponseStatus] = []) async throws -> Running {
        let bodies = Collector<[UInt8]>()
        let heads = Collector<HTTPRequestHead>()
        let remaining = Collector<Void>()
        let channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.configureHTTPServerPipeline()
                    try channel.pipeline.syncOperations.addHandler(Handler(statuses, remaining, bodies, heads))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        let port = channel.localAddress?.port ?? 0
        return Running(port: port, bodies: bodies, heads: heads, stop: { try? await channel.close() })
    }

    private final class Handler: ChannelInboundHandler {
        typealias InboundIn = HTTPServerRequestPart
        typealias OutboundOut = HTTPServerResponsePart

        private let statuses: [HTTPResponseStatus]
        private let answered: Collector<Void>
        private let bodies: Collector<[UInt8]>
        private let heads: Collector<HTTPRequestHead>
        private var body: [UInt8] = []

        init(
            _ statuses: [HTTPResponseStatus],
            _ answered: Collector<Void>,
            _ bodies: Collector<[UInt8]>,
            _ heads: Collector<HTTPRequestHead>
        ) {
            self.statuses = statuses
            self.answered = answered
            self.bodies = bodies
            self.heads = heads
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            switch unwrapInboundIn(data) {
            case .head(let head): heads.add(head)
            case .body(let part): body += Array(part.readableBytesView)
            case .end:
                let index = answered.all.count
                answered.add(())
                let status = index < statuses.count ? statuses[index] : .noContent
                if status.code < 300 { bodies.add(body) }
                let head = HTTPResponseHead(version: .http1_1, status: status, headers: ["content-length": "0"])
                context.write(wrapOutboundOut(.head(head)), promise: nil)
                context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
            }
        }
    }
}
