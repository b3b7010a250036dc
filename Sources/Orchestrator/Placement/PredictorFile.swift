import Foundation
import LinuxSystem
import Logging
import Mobility

/// What the predictor has learned, kept on the host over restarts of the daemon.
package struct PredictorFile: Sendable {
    private let directory: String
    private let logger: Logger
    private var path: String { directory + "/predictor" }

    /// The file in a host's state directory.
    package init(state: String, logger: Logger) {
        directory = state + "/mobility"
        self.logger = logger
    }

    /// The bytes kept; nil where there are none or they cannot be read.
    package func read() async -> [UInt8]? {
        let path = path
        return await attempt("the predictor's memory was not read") {
            FileManager.default.fileExists(atPath: path) ? try FileContents.bytes(of: path) : nil
        } ?? nil
    }

    /// Replaces the bytes kept.
    package func write(_ bytes: [UInt8]) async {
        let (path, directory) = (path, directory)
        await attempt("the predictor's memory was not kept") {
            try FileManager.default.createDirectory(
                atPath: directory,
                withIntermediateDirectories: true,
                attributes: [.posixPermissions: 0o700]
            )
            try FileContents.replace(path, with: bytes, durable: true)
        }
    }

    /// Puts a damaged file aside, so that it can be looked at and is not met again.
    package func setAside() async {
        let path = path
        await attempt("the predictor's damaged memory was not put aside") {
            _ = try? FileManager.default.removeItem(atPath: path + ".damaged")
            try FileManager.default.moveItem(atPath: path, toPath: path + ".damaged")
        }
    }

    /// Predictions get better with what was learned, and go on without: a failure is told and costs nothing else.
    @discardableResult
    private func attempt<Value: Sendable>(
        _ otherwise: Logger.Message,
        _ body: @escaping @Sendable () throws -> Value
    ) async -> Value? {
        do {
            return try await offload(body)
        } catch {
            logger.warning(otherwise, metadata: ["error": "\(error)"])
            return nil
        }
    }
}
