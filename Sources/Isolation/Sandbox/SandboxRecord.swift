import Foundation
import Glibc
import LinuxSystem

/// What a host keeps of one sandbox in files, so that a daemon that starts finds it again.
struct SandboxRecord: Sendable {
    let user: String
    let paths: HostPaths

    private var specFile: String { paths.smi(user) + "/spec.json" }
    private var processFile: String { paths.runtime(user) + "/process.json" }

    /// The specification; nil where none is kept or it cannot be read.
    func spec() -> SandboxSpec? {
        read(SandboxSpec.self, specFile)
    }

    /// The process last started or restored here; it may have ended.
    func process() -> SandboxProcess? {
        read(SandboxProcess.self, processFile)
    }

    /// Keeps the specification, which holds the secret: mode 0600 in a directory of mode 0700.
    func write(_ spec: SandboxSpec) throws {
        try Directories.make(paths.smi(user))
        try FileContents.replace(specFile, with: Self.encode(spec))
    }

    /// Keeps the process.
    func write(_ process: SandboxProcess) throws {
        try Directories.make(paths.runtime(user))
        try FileContents.replace(processFile, with: Self.encode(process))
    }

    /// Forgets the process.
    func forgetProcess() {
        unlink(processFile)
    }

    private func read<Value: Decodable>(_ type: Value.Type, _ path: String) -> Value? {
        guard let bytes = try? FileContents.bytes(of: path) else { return nil }
        return try? JSONDecoder().decode(type, from: Data(bytes))
    }

    private static func encode(_ value: some Encodable) throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        return Array(try encoder.encode(value))
    }
}
