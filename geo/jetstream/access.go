package jetstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
)

// Access is how a client shows servers who it is, and knows that it is them. The
// files are read at every connect, so that they can be replaced. Users and
// passwords, or tokens, may stand in the servers' URLs instead.
type Access struct {
	// Credentials is a file with a user's JWT and its seed, as nsc writes it.
	Credentials string
	// CA is a PEM file with the authorities that the servers' certificates come
	// from; without it, those of the machine.
	CA string
	// Cert and Key are PEM files with the client's own certificate.
	Cert, Key string
}

// Check reads all files and says what is wrong with them.
func (a Access) Check() error {
	var errs []error
	if a.Credentials != "" {
		if _, err := os.ReadFile(a.Credentials); err != nil {
			errs = append(errs, fmt.Errorf("credentials: %w", err))
		}
	}
	if a.CA != "" {
		if pem, err := os.ReadFile(a.CA); err != nil {
			errs = append(errs, fmt.Errorf("ca: %w", err))
		} else if !x509.NewCertPool().AppendCertsFromPEM(pem) {
			errs = append(errs, fmt.Errorf("ca: no certificate in %s", a.CA))
		}
	}
	switch {
	case (a.Cert == "") != (a.Key == ""):
		errs = append(errs, errors.New("cert and key go together"))
	case a.Cert != "":
		if _, err := tls.LoadX509KeyPair(a.Cert, a.Key); err != nil {
			errs = append(errs, fmt.Errorf("cert and key: %w", err))
		}
	}
	return errors.Join(errs...)
}

func (a Access) options() (opts []nats.Option) {
	if a.Credentials != "" {
		opts = append(opts, nats.UserCredentials(a.Credentials))
	}
	if a.CA != "" {
		opts = append(opts, nats.RootCAs(a.CA))
	}
	if a.Cert != "" {
		opts = append(opts, nats.ClientCert(a.Cert, a.Key))
	}
	return opts
}

// tellEvery is how often the same trouble with a connection is told.
const tellEvery = 30 * time.Second

// doubtAfter is how many attempts in a row a server must end, without a reason,
// before it is told: one that stops or is overloaded does so, too.
const doubtAfter = 5

// complaints tells an operator what a person has to mend: servers that refuse
// this client, or are not who they should be. It does not tell that nobody
// answers: that passes, and shows elsewhere. There is one for each connection.
type complaints struct {
	logger hclog.Logger

	mu sync.Mutex
	nc *nats.Conn // from when it was first made, or first failed
	// refusal and doubt are when the last was told of.
	refusal, doubt time.Time
	doubts         int
	doubted        time.Time
}

func (c *complaints) options() []nats.Option {
	return []nats.Option{
		nats.ReconnectErrHandler(func(nc *nats.Conn, err error) { c.tell(nc, err) }),
		nats.ErrorHandler(func(nc *nats.Conn, _ *nats.Subscription, err error) { c.tell(nc, err) }),
		// Else the client would give up for good after the second refusal, and
		// whoever mends the cause would have to restart the node.
		nats.IgnoreAuthErrorAbort(),
		nats.ConnectHandler(func(nc *nats.Conn) {
			c.mu.Lock()
			c.nc = nc
			c.mu.Unlock()
		}),
		nats.CustomReconnectDelay(func(int) time.Duration {
			c.again()
			return reconnectWait + rand.N(reconnectWait)
		}),
	}
}

// again tells why the last attempt failed. The client calls its handlers for what
// fails before the first byte comes from a server, and for the very first attempt;
// of a later one that the server ends, or whose certificate does not do, it keeps
// the error and calls nobody.
func (c *complaints) again() {
	c.mu.Lock()
	nc := c.nc
	c.mu.Unlock()
	if nc == nil {
		return
	}
	if err := nc.LastError(); err != nil {
		c.tell(nc, err)
	}
}

func (c *complaints) tell(nc *nats.Conn, err error) {
	c.logger.Log(c.level(nc, err, time.Now()), "trouble with a nats server", "connection", nc.Opts.Name, "error", err)
}

// level is a warning for refusals and for repeated doubts, each every tellEvery. A
// server that does not like a certificate ends a connection which, in TLS 1.3, the
// client takes for made: its reason is lost when the client meets the end first. So
// a doubt that was told must not keep back a reason that is known later.
func (c *complaints) level(nc *nats.Conn, err error, now time.Time) hclog.Level {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nc = nc
	told := &c.refusal
	if !refused(err) {
		if now.Sub(c.doubted) > tellEvery {
			c.doubts = 0
		}
		if !errors.Is(err, nats.ErrTLS) {
			return hclog.Debug
		}
		c.doubts, c.doubted = c.doubts+1, now
		if c.doubts < doubtAfter {
			return hclog.Debug
		}
		told = &c.doubt
	}
	if now.Sub(*told) < tellEvery {
		return hclog.Debug
	}
	*told = now
	return hclog.Warn
}

// refused says that trying again will not help.
func refused(err error) bool {
	for _, e := range []error{
		nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrPermissionViolation,
		nats.ErrSecureConnRequired, nats.ErrSecureConnWanted,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	// What the server found wrong has no type that can be asked for.
	alert := strings.Contains(err.Error(), "remote error: tls: ")
	return errors.As(err, &unknown) || errors.As(err, &invalid) || errors.As(err, &name) || alert
}
