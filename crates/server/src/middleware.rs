//! What stands between a connection and a gRPC service, below gRPC: whoever calls is looked at, and what is asked may go
//! elsewhere, before any of it is read.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tonic::{
    Status,
    body::Body,
    codegen::{Service, http},
    server::NamedService,
};

type Request = http::Request<Body>;
type Response = http::Response<Body>;

/// A service as tonic makes it from a handler, or one that is wrapped already.
pub(crate) trait Inner:
    Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static
{
    /// What the service answers, a refusal too.
    fn answer(mut self, request: Request) -> impl Future<Output = Response> + Send {
        async move {
            match self.call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        }
    }
}

impl<S> Inner for S where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

pub(crate) trait Middleware: Clone + Send + 'static {
    /// What comes of a request: `inner` answers it, or it is refused, or somebody else answers.
    fn handle<S: Inner>(
        self,
        request: Request,
        inner: S,
    ) -> impl Future<Output = Result<Response, Status>> + Send;

    fn wrap<S>(&self, inner: S) -> Wrapped<S, Self> {
        Wrapped { inner, middleware: self.clone() }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Wrapped<S, M> {
    inner: S,
    middleware: M,
}

impl<S: NamedService, M> NamedService for Wrapped<S, M> {
    const NAME: &'static str = S::NAME;
}

impl<S: Inner, M: Middleware> Service<Request> for Wrapped<S, M> {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // The one that is ready is the one that is called.
        let waiting = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, waiting);
        let handled = self.middleware.clone().handle(request, inner);
        Box::pin(async move { Ok(handled.await.unwrap_or_else(Status::into_http)) })
    }
}
