import Glibc

/// A system call that failed: which one, on what, and why.
///
/// Thrown by everything in `LinuxSystem`; the layer above adds cause and remedy in its own terms.
package struct SyscallError: Error, Equatable, CustomStringConvertible {
    /// The call's name as in section 2 of the manual, such as `mount`.
    package let call: String
    /// The value of `errno` (errno(3)).
    package let code: Int32
    /// The path, interface or other object that the call was about, where there is one.
    package let subject: String?

    /// Describes a failed call; `code` is taken from `errno` unless given.
    package init(_ call: String, code: Int32 = errno, subject: String? = nil) {
        self.call = call
        self.code = code
        self.subject = subject
    }

    /// `mount /a/b: No such file or directory`.
    package var description: String {
        let reason = String(cString: strerror(code))
        return subject.map { "\(call) \($0): \(reason)" } ?? "\(call): \(reason)"
    }
}

/// Runs a system call until it is not interrupted, and throws for a negative result.
///
/// `errno` is read before anything else runs, as Swift's runtime may change it.
@discardableResult
package func syscall<Result: BinaryInteger>(
    _ name: String,
    _ subject: @autoclosure () -> String? = nil,
    _ body: () -> Result
) throws(SyscallError) -> Result {
    while true {
        let result = body()
        if result >= 0 { return result }
        let code = errno
        if code == EINTR { continue }
        throw SyscallError(name, code: code, subject: subject())
    }
}
